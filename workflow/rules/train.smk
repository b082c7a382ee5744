# One job per run; what a frozen tower says about an image or a prompt is computed once.

CHECKPOINTS = (
    f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/checkpoints.safetensors"
)


rule features:
    input:
        weights=lambda wildcards: study.weights(wildcards.backbone),
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
        backbone=lambda wildcards: study.tower(wildcards.backbone),
        side=study.image.side,
    shell:
        "python -m clipdr features {wildcards.domain} --backbone {params.backbone:q} --side {params.side} --data {params.data:q} "
        "--threads {threads} > {log} 2>&1"


rule prompts:
    input:
        weights=lambda wildcards: study.weights(wildcards.backbone),
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
        backbone=lambda wildcards: study.tower(wildcards.backbone),
        side=study.image.side,
    shell:
        "python -m clipdr prompts --backbone {params.backbone:q} --side {params.side} --data {params.data:q} --threads {threads} > {log} 2>&1"


rule train:
    input:
        data=lambda wildcards: study.inputs(wildcards.method, wildcards.protocol),
        # not ancient(): Snakemake 9 would then overlook edits of this rule's other inputs whenever a gate has to be asked again
        gate=f"{RESULTS}/gate/{{protocol}}/{{held_out}}.json",
        code=lambda wildcards: code("train", study.module(wildcards.method)),
    output:
        *expand(
            f"{RESULTS}/runs/{{{{protocol}}}}/{{{{method}}}}/{{{{held_out}}}}/{{{{seed}}}}/{{name}}",
            name=[
                "settings.json",
                "provenance.json",
                "history.csv",
                "model.safetensors",
                "predictions.parquet",
            ],
        ),
        *([temp(CHECKPOINTS)] if FURTHER else []),
    log:
        f"{RESULTS}/logs/train/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        settings=lambda wildcards: study.job(wildcards.method),
        domains=lambda wildcards: ",".join(study.listed(wildcards.protocol)),
        keep=" --keep" if FURTHER else "",
    shell:
        "python -m clipdr train {params.results:q}/runs/{wildcards.protocol}/{wildcards.method}/{wildcards.held_out}/{wildcards.seed} "
        "--settings {params.settings:q} --domains {params.domains} --data {params.data:q} --threads {threads}{params.keep} > {log} 2>&1"


# leave-one-source-domain-out validation: a run's sources and nothing of what it holds out
rule curve:
    input:
        data=lambda wildcards: study.inputs(
            wildcards.method, wildcards.protocol, without=wildcards.held_out
        ),
        code=lambda wildcards: code("curve", study.module(wildcards.method)),
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
        settings=lambda wildcards: study.job(wildcards.method),
        domains=lambda wildcards: ",".join(study.sources(wildcards.held_out)),
    shell:
        "python -m clipdr curve {output:q} --settings {params.settings:q} --domains {params.domains} --data {params.data:q} "
        "--threads {threads} > {log} 2>&1"


rule select:
    input:
        run=expand(
            f"{RESULTS}/runs/{{{{protocol}}}}/{{{{method}}}}/{{{{held_out}}}}/{{{{seed}}}}/{{name}}",
            name=["settings.json", "history.csv", "model.safetensors"],
        ),
        checkpoints=CHECKPOINTS,
        inner=lambda wildcards: study.inner(**wildcards),
        data=lambda wildcards: study.inputs(wildcards.method, wildcards.protocol),
        code=lambda wildcards: code("select", study.module(wildcards.method)),
    output:
        predictions=f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/selected.parquet",
        chosen=f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/selected.json",
        receipt=f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}/selected.receipt.json",
    log:
        f"{RESULTS}/logs/select/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=study.gpu,
    params:
        data=lambda wildcards: DATA,
        rules=lambda wildcards: ",".join(study.further(wildcards.protocol)),
        inner=lambda wildcards, input: [f"--inner {path}" for path in input.inner],
        domains=lambda wildcards: ",".join(study.listed(wildcards.protocol)),
    shell:
        "python -m clipdr select $(dirname {output.chosen:q}) --rules {params.rules} {params.inner} --domains {params.domains} "
        "--data {params.data:q} --threads {threads} > {log} 2>&1"


# optional: snakemake searched --configfile STUDY; a study with `tuned: RESULTS/search` then trains with what was chosen
rule search:
    input:
        data=lambda wildcards: study.inputs(
            wildcards.method, without=study.search.held_out or study.domains[0]
        ),
        code=lambda wildcards: code("search", study.module(wildcards.method)),
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
        settings=lambda wildcards: study.job(wildcards.method, tuned=False),
        domains=",".join(study.sources(study.search.held_out or study.domains[0])),
        options="--trials {0.trials} --seed {0.seed}".format(study.search),
    shell:
        "python -m clipdr search {output:q} --settings {params.settings:q} --domains {params.domains} --data {params.data:q} "
        "{params.options} --threads {threads} > {log} 2>&1"


rule searched:
    input:
        study.searched(),
