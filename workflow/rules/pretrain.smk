# RET-CLIP: pre-training on both eyes of a patient and the report, and its evaluation.
#   snakemake pretrained --configfile workflow/studies/pretrain.yaml
# A study that names pre-training runs has a section of them in its report. Others run none of this.

# name -> {source, raw, size, preset, settings, seeds, labels}
PRETRAIN = study.pretrain
PRETRAINED = f"{RESULTS}/pretrain/runs/{{name}}/{{seed}}"
PATIENTS_TABLE = f"{DATA}/patients/{{name}}.csv"
if PRETRAIN:
    SECTIONS.append(f"{RESULTS}/pretrain/section.json")


rule pairs:
    input:
        code=code("pretrain pairs"),
    output:
        table=PATIENTS_TABLE,
        split=f"{DATA}/patients/{{name}}.split.json",
    log:
        f"{RESULTS}/logs/pretrain/pairs/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 4
    params:
        data=lambda wildcards: DATA,
        options=lambda wildcards: "{source} --raw {raw} --size {size}".format(
            **PRETRAIN[wildcards.name]
        ),
        seed=lambda wildcards: PRETRAIN[wildcards.name].get("split_seed", 0),
        people=lambda wildcards: "--patients {patients} --people {people}".format(
            **({"patients": 1000, "people": 5000} | PRETRAIN[wildcards.name])
        ),
    shell:
        "python -m clipdr pretrain pairs {params.options} --data {params.data:q}"
        " --out {output.table:q} --seed {params.seed} {params.people} --processes {threads}"
        " > {log} 2>&1"


rule pretrain:
    input:
        table=PATIENTS_TABLE,
        code=code("pretrain train"),
    output:
        expand(
            f"{PRETRAINED}/{{file}}",
            file=[
                "settings.json",
                "text.json",
                "seen.json",
                "history.csv",
                "model.safetensors",
                "provenance.json",
            ],
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/pretrain/{{name}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        folder=PRETRAINED,
        preset=lambda wildcards: PRETRAIN[wildcards.name]["preset"],
        settings=lambda wildcards: study.pretrain_settings_json(**wildcards),
    shell:
        "python -m clipdr pretrain train {params.folder:q} --pairs {input.table:q}"
        " --data {params.data:q} --preset {params.preset} --settings {params.settings:q}"
        " --threads {threads} > {log} 2>&1"


rule export_backbone:
    input:
        run=f"{PRETRAINED}/model.safetensors",
        code=code("pretrain export"),
    output:
        expand(
            f"{RESULTS}/pretrain/backbones/{{name}}_{{seed}}/{{file}}",
            file=["visual.json", "visual.safetensors", "heads.safetensors"],
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/pretrain/export/{{name}}_{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        folder=f"{RESULTS}/pretrain/backbones/{{name}}_{{seed}}",
    shell:
        'python -m clipdr pretrain export "$(dirname {input.run:q})" {params.folder:q}'
        " --name {wildcards.name} > {log} 2>&1"


rule evaluate_pretrained:
    input:
        run=f"{PRETRAINED}/model.safetensors",
        table=PATIENTS_TABLE,
        code=[*code("pretrain retrieve"), *code("pretrain probe"), *code("pretrain zeroshot")],
    output:
        retrieval=f"{PRETRAINED}/retrieval.csv",
        examples=f"{PRETRAINED}/examples.json",
        probes=f"{PRETRAINED}/probes.csv",
        zeroshot=f"{PRETRAINED}/zeroshot.csv",
        fewshot=f"{PRETRAINED}/fewshot.csv",
    log:
        f"{RESULTS}/logs/pretrain/evaluate/{{name}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        labels=lambda wildcards: ",".join(PRETRAIN[wildcards.name]["labels"]),
        visit=lambda wildcards: PRETRAIN[wildcards.name].get("visit", ""),
    shell:
        "(run=$(dirname {input.run:q}); "
        'common="--pairs {input.table} --data {params.data} --threads {threads}"; '
        "python -m clipdr pretrain retrieve $run $common --visit '{params.visit}' && "
        "python -m clipdr pretrain probe $run $common --labels {params.labels} && "
        "python -m clipdr pretrain zeroshot $run $common --labels {params.labels}) > {log} 2>&1"


rule pretrain_report:
    input:
        runs=[
            f"{RESULTS}/pretrain/runs/{name}/{seed}/{file}"
            for name in PRETRAIN
            for seed in PRETRAIN[name]["seeds"]
            for file in [
                "history.csv",
                "retrieval.csv",
                "examples.json",
                "probes.csv",
                "zeroshot.csv",
                "fewshot.csv",
            ]
        ],
        templates=TABLE_TEMPLATES,
        code=code("pretrain report"),
    output:
        probes=f"{RESULTS}/pretrain/probes.csv",
        retrieval=f"{RESULTS}/pretrain/retrieval.csv",
        section=f"{RESULTS}/pretrain/section.json",
    log:
        f"{RESULTS}/logs/pretrain/report.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        data=lambda wildcards: DATA,
    shell:
        "python -m clipdr pretrain report {params.results:q} --data {params.data:q} > {log} 2>&1"


rule pretrained:
    input:
        rules.pretrain_report.output,
        [
            f"{RESULTS}/pretrain/backbones/{name}_{seed}/visual.json"
            for name in PRETRAIN
            for seed in PRETRAIN[name]["seeds"]
        ],
