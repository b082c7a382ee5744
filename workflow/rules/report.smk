# Predictions -> scores, tables, figures, MLflow: everything here is computed from predictions and manifests alone.

RUN = f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}"
FEATURES = [
    *expand(f"{DATA}/features/{study.study_backbone}/{{domain}}.npy", domain=study.domains),
    f"{DATA}/features/{study.study_backbone}/prompts.npz",
]


rule score:
    input:
        predictions=f"{RUN}/predictions.parquet",
        also=lambda wildcards: (
            f"{RUN}/selected.parquet".format(**wildcards)
            if study.further(wildcards.protocol)
            else []
        ),
        manifests=lambda wildcards: study.manifests(wildcards.protocol),
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
        domains=lambda wildcards: ",".join(study.listed(wildcards.protocol)),
        bootstrap=study.bootstrap,
        also=lambda wildcards: (
            " --also selected.parquet" if study.further(wildcards.protocol) else ""
        ),
    shell:
        "python -m clipdr score $(dirname {output.scores:q}) --domains {params.domains} --data {params.data:q} "
        "--bootstrap {params.bootstrap}{params.also} > {log} 2>&1"


rule data_report:
    input:
        manifests=MANIFESTS,
        stores=expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains),
        rejected=expand(f"{DATA}/rejected/{{domain}}.csv", domain=study.domains),
        code=code("data-report"),
    output:
        files=expand(
            f"{RESULTS}/data/{{name}}",
            name=[
                "counts.csv",
                "counts.md",
                "counts.tex",
                "resolutions.csv",
                "quality.csv",
                "samples.csv",
            ],
        ),
        figures=expand(
            f"{RESULTS}/data/{{name}}.png",
            name=["quality", *expand("samples_{domain}", domain=study.domains)],
        ),
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
        runs=study.runs(""),
    shell:
        "python -m clipdr collect {params.runs} --results {params.results:q} > {log} 2>&1"


rule compare:
    input:
        scores=study.runs("scores.csv"),
        draws=study.runs("draws.npz"),
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
        runs=study.runs(""),
    shell:
        "python -m clipdr compare {params.runs} --reference {params.reference} --results {params.results:q} > {log} 2>&1"


rule table:
    input:
        gate=study.gates(),
        scores=study.runs("scores.csv"),
        draws=study.runs("draws.npz"),
        settings=study.runs("settings.json"),
        provenance=study.runs("provenance.json"),
        comparisons=lambda wildcards: (
            f"{RESULTS}/comparisons.csv" if "_compare_" in wildcards.name else []
        ),
        published=lambda wildcards: (
            package_file("report/tables/published.csv")
            if wildcards.name.startswith("reproduction_")
            else []
        ),
        code=code("table"),
    output:
        csv=report(
            f"{RESULTS}/tables/{{name}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{name}, all numbers"},
        ),
        md=f"{RESULTS}/tables/{{name}}.md",
        tex=f"{RESULTS}/tables/{{name}}.tex",
        html=report(
            f"{RESULTS}/tables/{{name}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{name}, to read"},
        ),
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
        history=lambda wildcards: study.shown("history.csv", wildcards.name),
        settings=lambda wildcards: study.shown("settings.json", wildcards.name),
        provenance=lambda wildcards: study.shown("provenance.json", wildcards.name),
        draws=lambda wildcards: study.shown("draws.npz", wildcards.name),
        scores=lambda wildcards: study.shown("scores.csv", wildcards.name),
        operating=lambda wildcards: study.shown("operating.json", wildcards.name),
        comparisons=lambda wildcards: (
            f"{RESULTS}/comparisons.csv" if wildcards.name == "differences" else []
        ),
        features=lambda wildcards: FEATURES if wildcards.name == "embedding" else [],
        # one module per figure: an edit draws that figure again and no other
        code=lambda wildcards: code("figure", f"report/figures/{wildcards.name}"),
    output:
        png=report(
            f"{RESULTS}/figures/{{name}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        pdf=f"{RESULTS}/figures/{{name}}.pdf",
        svg=f"{RESULTS}/figures/{{name}}.svg",
        receipt=f"{RESULTS}/receipts/figures/{{name}}.json",
    log:
        f"{RESULTS}/logs/figure/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        data=lambda wildcards: DATA,
        backbone=study.study_backbone,
        runs=lambda wildcards: study.shown("", wildcards.name),
    shell:
        "python -m clipdr figure {wildcards.name} {params.runs} --results {params.results:q} --data {params.data:q} "
        "--backbone {params.backbone} > {log} 2>&1"


ruleorder: cam > figure


rule cam:
    input:
        weights=study.mapped("model.safetensors"),
        settings=study.mapped("settings.json"),
        predictions=study.mapped("predictions.parquet"),
        towers=study.weights(study.study_backbone),
        manifests=MANIFESTS,
        stores=expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains),
        images=f"{study.raw}/images/{study.domains[0]}" if study.domains[0] in SYNTHETIC else [],
        code=code("cam", *[study.module(method) for method in study.figures.get("cam", [])]),
    output:
        png=report(
            f"{RESULTS}/figures/cam.png",
            caption="../report/cam.rst",
            category="Figures",
            labels={"figure": "cam"},
        ),
        pdf=f"{RESULTS}/figures/cam.pdf",
        svg=f"{RESULTS}/figures/cam.svg",
        csv=f"{RESULTS}/figures/cam.csv",
        receipt=f"{RESULTS}/receipts/figures/cam.json",
    log:
        f"{RESULTS}/logs/figure/cam.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=LISTED,
        drawn=(
            f"--raw {study.raw} --size {study.synthetic.size} --seed {study.synthetic.seed}"
            if study.domains[0] in SYNTHETIC
            else ""
        ),
        runs=study.mapped(""),
    shell:
        "python -m clipdr cam {params.runs} --domains {params.domains} --data {params.data:q} --results {params.results:q} {params.drawn} "
        "--threads {threads} > {log} 2>&1"


rule track:
    input:
        scores=study.runs("scores.csv"),
        tables=expand(
            f"{RESULTS}/tables/{{name}}.{{suffix}}",
            name=study.tables,
            suffix=["csv", "md", "tex", "html"],
        ),
        figures=expand(f"{RESULTS}/figures/{{name}}.png", name=study.drawn()),
        code=code("track"),
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
