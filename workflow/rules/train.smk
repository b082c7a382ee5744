# One job per run, and the feature caches of frozen encoders.


rule features:
    input:
        weights=lambda wildcards: paths.weight_files(wildcards.backbone),
        manifest=f"{DATA}/manifests/{{domain}}.csv",
        store=f"{DATA}/store/{{domain}}.npy",
        code=code("features"),
    output:
        features=f"{DATA}/features/{{backbone}}/{{domain}}.npy",
        receipt=f"{DATA}/features/{{backbone}}/{{domain}}.receipt.json",
    log:
        f"{RESULTS}/logs/features/{{backbone}}/{{domain}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        backbone=lambda wildcards: study.backbone_json(wildcards.backbone),
        side=study.image.side,
    shell:
        "python -m clipdr features {wildcards.domain} --backbone {params.backbone:q}"
        " --side {params.side} --data {params.data:q} --threads {threads} > {log} 2>&1"


rule prompts:
    input:
        weights=lambda wildcards: paths.weight_files(wildcards.backbone),
        code=code("prompts"),
    output:
        prompts=f"{DATA}/features/{{backbone}}/prompts.npz",
        receipt=f"{DATA}/features/{{backbone}}/prompts.receipt.json",
    log:
        f"{RESULTS}/logs/features/{{backbone}}/prompts.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        backbone=lambda wildcards: study.backbone_json(wildcards.backbone),
        side=study.image.side,
    shell:
        "python -m clipdr prompts --backbone {params.backbone:q} --side {params.side}"
        " --data {params.data:q} --threads {threads} > {log} 2>&1"


rule train:
    input:
        data=lambda wildcards: paths.training_inputs(wildcards.method, wildcards.protocol),
        # Not ancient(): Snakemake 9 would then overlook edits of the other inputs whenever the
        # leakage check runs again.
        gate=f"{RESULTS}/gate/{{protocol}}/{{held_out}}.json",
        code=lambda wildcards: code("train", study.method_module(wildcards.method)),
    output:
        settings=f"{RUN}/settings.json",
        others=expand(
            f"{RUN}/{{name}}",
            name=[
                "provenance.json",
                "history.csv",
                "model.safetensors",
                "predictions.parquet",
            ],
            allow_missing=True,
        ),
        checkpoints=temp(f"{RUN}/checkpoints.safetensors") if KEEP_CHECKPOINTS else [],
    log:
        f"{RESULTS}/logs/train/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        settings=lambda wildcards: study.settings_json(wildcards.method),
        domains=protocol_domains,
        keep=" --keep" if KEEP_CHECKPOINTS else "",
    shell:
        'python -m clipdr train "$(dirname {output.settings:q})" --settings {params.settings:q}'
        " --domains {params.domains} --data {params.data:q} --threads {threads}{params.keep}"
        " > {log} 2>&1"


# Leave-one-source-domain-out validation: reads a run's sources, nothing of its held-out domain.
rule curve:
    input:
        data=lambda wildcards: paths.training_inputs(
            wildcards.method, wildcards.protocol, without=wildcards.held_out
        ),
        code=lambda wildcards: code("curve", study.method_module(wildcards.method)),
    output:
        f"{RESULTS}/inner/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/{{left_out}}.csv",
    log:
        f"{RESULTS}/logs/curve/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/{{left_out}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        settings=lambda wildcards: study.settings_json(wildcards.method),
        domains=lambda wildcards: ",".join(study.source_domains(wildcards.held_out)),
    shell:
        "python -m clipdr curve {output:q} --settings {params.settings:q}"
        " --domains {params.domains} --data {params.data:q} --threads {threads} > {log} 2>&1"


rule select:
    input:
        run=expand(
            f"{RUN}/{{name}}",
            name=["settings.json", "history.csv", "model.safetensors"],
            allow_missing=True,
        ),
        checkpoints=f"{RUN}/checkpoints.safetensors",
        inner=lambda wildcards: paths.inner_curves(**wildcards),
        data=lambda wildcards: paths.training_inputs(wildcards.method, wildcards.protocol),
        code=lambda wildcards: code("select", study.method_module(wildcards.method)),
    output:
        predictions=f"{RUN}/selected.parquet",
        chosen=f"{RUN}/selected.json",
        receipt=f"{RUN}/selected.receipt.json",
    log:
        f"{RESULTS}/logs/select/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        rules=lambda wildcards: ",".join(study.checkpoint_rules(wildcards.protocol)),
        inner=lambda wildcards, input: [f"--inner {path}" for path in input.inner],
        domains=protocol_domains,
    shell:
        'python -m clipdr select "$(dirname {output.chosen:q})" --rules {params.rules}'
        " {params.inner} --domains {params.domains} --data {params.data:q} --threads {threads}"
        " > {log} 2>&1"


# Optional: snakemake searched --configfile STUDY. A study with `tuned: RESULTS/search` then trains
# with the options chosen.
rule search:
    input:
        data=lambda wildcards: paths.training_inputs(
            wildcards.method, without=study.search.held_out or study.domains[0]
        ),
        code=lambda wildcards: code("search", study.method_module(wildcards.method)),
    output:
        f"{RESULTS}/search/{{method}}.json",
    log:
        f"{RESULTS}/logs/search/{{method}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        settings=lambda wildcards: study.settings_json(wildcards.method, tuned=False),
        domains=",".join(study.source_domains(study.search.held_out or study.domains[0])),
        options="--trials {0.trials} --seed {0.seed}".format(study.search),
    shell:
        "python -m clipdr search {output:q} --settings {params.settings:q}"
        " --domains {params.domains} --data {params.data:q} {params.options} --threads {threads}"
        " > {log} 2>&1"


rule searched:
    input:
        paths.search_files(),
