# The data report, the report of the study (results/report.html, opens offline) and MLflow.


rule data_report:
    input:
        manifests=MANIFESTS,
        stores=STORES,
        rejected=REJECTED,
        templates=[*TABLE_TEMPLATES, package_file("report/templates/data_report.html")],
        code=code("data-report"),
    output:
        files=expand(
            f"{RESULTS}/data/{{name}}",
            name=[
                "counts.csv",
                "counts.json",
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
        domains=ALL_DOMAINS,
    shell:
        "python -m clipdr data-report {params.domains} --data {params.data:q}"
        " --results {params.results:q} --threads {threads} > {log} 2>&1"


rule report:
    input:
        tables=expand(f"{RESULTS}/tables/{{name}}.json", name=study.tables),
        figures=expand(
            f"{RESULTS}/figures/{{name}}.{{suffix}}",
            name=study.figure_names,
            suffix=["png", "svg"],
        ),
        comparisons=COMPARISONS,
        runs=[
            path
            for name in [
                "settings.json",
                "provenance.json",
                "history.csv",
                "predictions.parquet",
                "scores.csv",
                "draws.npz",
                "operating.json",
            ]
            for path in paths.run_files(name)
        ],
        leaks=f"{RESULTS}/leaks.csv",
        gate=GATES,
        data=expand(
            f"{RESULTS}/data/{{name}}",
            name=[
                "counts.json",
                "quality.csv",
                "quality.png",
                *expand("samples_{domain}.png", domain=study.domains),
            ],
        ),
        manifests=MANIFESTS,
        stores=STORES,
        rejected=REJECTED,
        deviations=project_file("docs/deviations.md"),
        sections=SECTIONS,
        templates=package_files("report/templates/*"),
        # Captions and sections of the figures stand in their modules.
        code=code("report", *[f"report/figures/{name}" for name in study.figure_names]),
    output:
        page=f"{RESULTS}/report.html",
        receipt=f"{RESULTS}/receipts/page.json",
    log:
        f"{RESULTS}/logs/page.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=ALL_DOMAINS,
        tables=",".join(study.tables),
        figures=",".join(study.figure_names),
        reference=study.reference,
        gallery=study.gallery,
        runs=RUN_FOLDERS,
        sections=expand("--section {path}", path=SECTIONS),
    shell:
        "python -m clipdr report {params.runs} --domains {params.domains}"
        " --tables '{params.tables}' --figures '{params.figures}' --reference {params.reference}"
        " --gallery {params.gallery} {params.sections} --deviations {input.deviations:q}"
        " --data {params.data:q} --results {params.results:q} > {log} 2>&1"


rule track:
    input:
        scores=RUN_SCORES,
        tables=TABLES,
        figures=expand(f"{RESULTS}/figures/{{name}}.png", name=study.figure_names),
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
