# One job per run; what a frozen tower says about an image or a prompt is computed once.

TOWER_CODE = expand("clipdr/{module}.py", module=["backbones", "weights", "text", "prompts", "data", "augment", "manifest"])


rule features:
    input:
        weights=lambda wildcards: study.weights(wildcards.backbone),
        manifest=f"{DATA}/manifests/{{domain}}.csv",
        store=f"{DATA}/store/{{domain}}.npy",
        code=[*TOWER_CODE, "clipdr/features.py"],
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
        code=[*TOWER_CODE, "clipdr/features.py"],
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
        data=lambda wildcards: study.inputs(wildcards.method),
        gate=ancient(f"{RESULTS}/gate/{{protocol}}/{{held_out}}.json"),  # must be there; a run depends on its images, not on this report
        code=[
            *TOWER_CODE,
            *expand("clipdr/{module}.py", module=["runs", "folds", "train", "settings", "losses", "metrics", "methods/base"]),
            "clipdr/methods/{method}.py",
        ],
    output:
        expand(
            f"{RESULTS}/runs/{{{{protocol}}}}/{{{{method}}}}/{{{{held_out}}}}/{{{{seed}}}}/{{name}}",
            name=["settings.json", "provenance.json", "history.csv", "model.safetensors", "predictions.parquet"],
        ),
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
        domains=LISTED,
    shell:
        "python -m clipdr train {params.results:q}/runs/{wildcards.protocol}/{wildcards.method}/{wildcards.held_out}/{wildcards.seed} "
        "--settings {params.settings:q} --domains {params.domains} --data {params.data:q} --threads {threads} > {log} 2>&1"
