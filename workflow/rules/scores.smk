# Predictions -> scores: everything is computed from predictions and manifests alone.


rule score:
    input:
        predictions=f"{RUN}/predictions.parquet",
        also=lambda wildcards: (
            f"{RUN}/selected.parquet".format(**wildcards)
            if study.checkpoint_rules(wildcards.protocol)
            else []
        ),
        manifests=lambda wildcards: paths.manifests(wildcards.protocol),
        code=code("score"),
    output:
        scores=f"{RUN}/scores.csv",
        draws=f"{RUN}/draws.npz",
        operating=f"{RUN}/operating.json",
        receipt=f"{RUN}/scores.receipt.json",
    log:
        f"{RESULTS}/logs/score/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        domains=protocol_domains,
        bootstrap=study.bootstrap,
        also=lambda wildcards: (
            " --also selected.parquet" if study.checkpoint_rules(wildcards.protocol) else ""
        ),
    shell:
        'python -m clipdr score "$(dirname {output.scores:q})" --domains {params.domains}'
        " --data {params.data:q} --bootstrap {params.bootstrap}{params.also} > {log} 2>&1"


rule collect:
    input:
        scores=RUN_SCORES,
        code=code("collect"),
    output:
        scores=f"{RESULTS}/scores.csv",
        summary=f"{RESULTS}/summary.json",
        receipt=f"{RESULTS}/receipts/collect.json",
    log:
        f"{RESULTS}/logs/collect.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        runs=RUN_FOLDERS,
    shell:
        "python -m clipdr collect {params.runs} --results {params.results:q} > {log} 2>&1"


rule compare:
    input:
        scores=RUN_SCORES,
        draws=RUN_DRAWS,
        code=code("compare"),
    output:
        comparisons=f"{RESULTS}/comparisons.csv",
        receipt=f"{RESULTS}/receipts/compare.json",
    log:
        f"{RESULTS}/logs/compare.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        reference=study.reference,
        runs=RUN_FOLDERS,
    shell:
        "python -m clipdr compare {params.runs} --reference {params.reference}"
        " --results {params.results:q} > {log} 2>&1"
