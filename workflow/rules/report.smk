# Predictions -> scores, tables, figures, MLflow: everything here is computed from predictions and manifests alone.

SCORE_CODE = expand("clipdr/{module}.py", module=["evaluate", "metrics", "statistics", "predictions", "domains"])
TABLE_CODE = expand("clipdr/{module}.py", module=["tables", "typeset", "settings"])
RUN = f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}"


rule score:
    input:
        predictions=f"{RUN}/predictions.parquet",
        also=lambda wildcards: f"{RUN}/selected.parquet".format(**wildcards) if study.further(wildcards.protocol) else [],
        manifests=lambda wildcards: study.manifests(wildcards.protocol),
        code=[*SCORE_CODE, "clipdr/manifest.py"],
    output:
        scores=f"{RUN}/scores.csv",
        draws=f"{RUN}/draws.npz",
        receipt=f"{RUN}/scores.receipt.json",
    log:
        f"{RESULTS}/logs/score/{{protocol}}/{{method}}/{{held_out}}/{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        domains=lambda wildcards: ",".join(study.listed(wildcards.protocol)),
        bootstrap=study.bootstrap,
        also=lambda wildcards: " --also selected.parquet" if study.further(wildcards.protocol) else "",
    shell:
        "python -m clipdr score $(dirname {output.scores:q}) --domains {params.domains} --data {params.data:q} "
        "--bootstrap {params.bootstrap}{params.also} > {log} 2>&1"


rule data_report:
    input:
        manifests=MANIFESTS,
        stores=expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains),
        rejected=expand(f"{DATA}/rejected/{{domain}}.csv", domain=study.domains),
        code=[
            *SCORE_CODE,
            *TABLE_CODE,
            *expand(
                "clipdr/{module}.py",
                module=["datareport", "datapage", "quality", "figures", "manifest", "fundus", "circle"],
            ),
        ],
    output:
        files=expand(
            f"{RESULTS}/data/{{name}}", name=["counts.csv", "counts.md", "counts.tex", "resolutions.csv", "quality.csv", "samples.csv"]
        ),
        figures=expand(f"{RESULTS}/data/{{name}}.png", name=["quality", *expand("samples_{domain}", domain=study.domains)]),
        page=report(f"{RESULTS}/data/index.html", caption="../report/data.rst", category="Data"),
        receipt=f"{RESULTS}/receipts/data.json",
    log:
        f"{RESULTS}/logs/data_report.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=LISTED,
    shell:
        "python -m clipdr data_report {params.domains} --data {params.data:q} --results {params.results:q} --threads {threads} > {log} 2>&1"


rule collect:
    input:
        scores=study.runs("scores.csv"),
        code=SCORE_CODE,
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
        runs=study.runs(""),
    shell:
        "python -m clipdr collect {params.runs} --results {params.results:q} > {log} 2>&1"


rule table:
    input:
        gate=study.gates(),
        scores=study.runs("scores.csv"),
        draws=study.runs("draws.npz"),
        settings=study.runs("settings.json"),
        provenance=study.runs("provenance.json"),
        code=[*SCORE_CODE, *TABLE_CODE, "clipdr/leakage.py"],
    output:
        csv=report(f"{RESULTS}/tables/{{name}}.csv", caption="../report/table.rst", category="Tables", labels={"table": "{name}"}),
        md=f"{RESULTS}/tables/{{name}}.md",
        tex=f"{RESULTS}/tables/{{name}}.tex",
        receipt=f"{RESULTS}/receipts/tables/{{name}}.json",
    log:
        f"{RESULTS}/logs/table/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        runs=study.runs(""),
    shell:
        "python -m clipdr table {wildcards.name} {params.runs} --results {params.results:q} > {log} 2>&1"


rule figure:
    input:
        predictions=lambda wildcards: study.shown("predictions.parquet", wildcards.name),
        draws=lambda wildcards: study.shown("draws.npz", wildcards.name),
        scores=lambda wildcards: study.shown("scores.csv", wildcards.name),
        code=[*SCORE_CODE, *TABLE_CODE, "clipdr/figures.py"],
    output:
        png=report(f"{RESULTS}/figures/{{name}}.png", caption="../report/figure.rst", category="Figures", labels={"figure": "{name}"}),
        pdf=f"{RESULTS}/figures/{{name}}.pdf",
        receipt=f"{RESULTS}/receipts/figures/{{name}}.json",
    log:
        f"{RESULTS}/logs/figure/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        runs=lambda wildcards: study.shown("", wildcards.name),
    shell:
        "python -m clipdr figure {wildcards.name} {params.runs} --results {params.results:q} > {log} 2>&1"


rule track:
    input:
        scores=study.runs("scores.csv"),
        tables=expand(f"{RESULTS}/tables/{{name}}.{{suffix}}", name=study.tables, suffix=["csv", "md", "tex"]),
        figures=expand(f"{RESULTS}/figures/{{name}}.png", name=study.drawn()),
        code=["clipdr/track.py", "clipdr/domains.py"],
    output:
        touch(f"{RESULTS}/.tracked"),
    log:
        f"{RESULTS}/logs/track.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
    shell:
        "python -m clipdr track --results {params.results:q} > {log} 2>&1"
