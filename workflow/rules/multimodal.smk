# The multimodal system: eyes -> models -> retrieval, grades and sanity checks -> its report.
#   snakemake multimodal --configfile workflow/studies/multimodal.yaml
# A study without the key `multimodal` has none of these rules.
import json

MULTIMODAL = study.multimodal

if MULTIMODAL:
    MM_DATA, MM_RESULTS, MM_NAME = (MULTIMODAL[key] for key in ("data", "results", "name"))
    MM_MODEL = f"{MM_RESULTS}/models/{{model}}/{{seed}}"
    SECTIONS.append(f"{MM_RESULTS}/section.json")

    # Paths of a file in the folders of some models, of all by default.
    mm_models = lambda name, models=MULTIMODAL["models"]: expand(
        f"{MM_RESULTS}/models/{{model}}/{{seed}}/{name}", model=models, seed=MULTIMODAL["seeds"]
    )
    # Settings of one model as a line of sorted JSON: the study's, and what the model changes.
    mm_settings = lambda model: json.dumps(
        MULTIMODAL["settings"] | (MULTIMODAL["models"][model] or {}), sort_keys=True
    )

    rule mm_prepare:
        input:
            code=code("multimodal prepare"),
        output:
            table=f"{MM_DATA}/{MM_NAME}.csv",
            store=f"{MM_DATA}/{MM_NAME}.npy",
            rejected=f"{MM_DATA}/{MM_NAME}_rejected.csv",
            receipt=f"{MM_DATA}/receipts/{MM_NAME}.json",
        log:
            f"{MM_RESULTS}/logs/prepare.log",
        conda:
            "../../environment.yml"
        threads: 4
        params:
            name=MM_NAME,
            data=lambda wildcards: MM_DATA,
            options=MULTIMODAL["prepare"],
        shell:
            "python -m clipdr multimodal prepare {params.name} {params.options} --data"
            " {params.data:q} --processes {threads} > {log} 2>&1"

    rule mm_train:
        input:
            table=f"{MM_DATA}/{MM_NAME}.csv",
            store=f"{MM_DATA}/{MM_NAME}.npy",
            code=code("multimodal train"),
        output:
            expand(
                f"{MM_MODEL}/{{name}}",
                name=[
                    "settings.json",
                    "provenance.json",
                    "history.csv",
                    "split.csv",
                    "tokenizer.json",
                    "grading.safetensors",
                    "retrieval.safetensors",
                ],
                allow_missing=True,
            ),
        log:
            f"{MM_RESULTS}/logs/train/{{model}}/{{seed}}.log",
        conda:
            "../../environment.yml"
        threads: 2
        resources:
            gpu=study.gpu,
        params:
            folder=lambda wildcards: MM_MODEL.format(**wildcards),
            settings=lambda wildcards: mm_settings(wildcards.model),
            preset=MULTIMODAL["preset"],
            name=MM_NAME,
            data=lambda wildcards: MM_DATA,
        shell:
            "python -m clipdr multimodal train {params.folder:q} --settings {params.settings:q}"
            " --preset {params.preset} --name {params.name} --data {params.data:q} --threads"
            " {threads} > {log} 2>&1"

    rule mm_retrieve:
        input:
            model=f"{MM_MODEL}/retrieval.safetensors",
            settings=f"{MM_MODEL}/settings.json",
            code=code("multimodal retrieve"),
        output:
            f"{MM_MODEL}/retrieval.csv",
        log:
            f"{MM_RESULTS}/logs/retrieve/{{model}}/{{seed}}.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            folder=lambda wildcards: MM_MODEL.format(**wildcards),
            data=lambda wildcards: MM_DATA,
            bootstrap=study.bootstrap,
        shell:
            "python -m clipdr multimodal retrieve {params.folder:q} --data {params.data:q}"
            " --resamples {params.bootstrap} > {log} 2>&1"

    use rule mm_retrieve as mm_leaky with:
        output:
            f"{MM_MODEL}/leaky.csv",
        log:
            f"{MM_RESULTS}/logs/leaky/{{model}}/{{seed}}.log",

    rule mm_classify:
        input:
            model=f"{MM_MODEL}/grading.safetensors",
            settings=f"{MM_MODEL}/settings.json",
            code=code("multimodal classify"),
        output:
            curves=f"{MM_MODEL}/curves.csv",
            attribution=f"{MM_MODEL}/attribution.csv",
        log:
            f"{MM_RESULTS}/logs/classify/{{model}}/{{seed}}.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            folder=lambda wildcards: MM_MODEL.format(**wildcards),
            held_out=MULTIMODAL["held_out"],
            data=lambda wildcards: MM_DATA,
            results=lambda wildcards: MM_RESULTS,
            bootstrap=study.bootstrap,
        shell:
            "python -m clipdr multimodal classify {params.folder:q} {params.held_out} --data"
            " {params.data:q} --results {params.results:q} --resamples {params.bootstrap} > {log}"
            " 2>&1"

    rule mm_sanity_checks:
        input:
            model=f"{MM_MODEL}/retrieval.safetensors",
            settings=f"{MM_MODEL}/settings.json",
            code=code("multimodal sanity-checks"),
        output:
            sanity_checks=f"{MM_MODEL}/sanity_checks.csv",
        log:
            f"{MM_RESULTS}/logs/sanity_checks/{{model}}/{{seed}}.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            folder=lambda wildcards: MM_MODEL.format(**wildcards),
            held_out=MULTIMODAL["held_out"],
            data=lambda wildcards: MM_DATA,
            results=lambda wildcards: MM_RESULTS,
            bootstrap=study.bootstrap,
        shell:
            "python -m clipdr multimodal sanity-checks {params.folder:q} {params.held_out} --data"
            " {params.data:q} --results {params.results:q} --resamples {params.bootstrap} > {log}"
            " 2>&1"

    rule mm_noise:
        input:
            code=code("multimodal noise"),
        output:
            f"{MM_RESULTS}/noise.json",
        log:
            f"{MM_RESULTS}/logs/noise.log",
        conda:
            "../../environment.yml"
        threads: 2
        params:
            options=MULTIMODAL["noise"],
        shell:
            "python -m clipdr multimodal noise {output:q} {params.options} --threads {threads} >"
            " {log} 2>&1"

    rule mm_upper_bounds:
        input:
            table=f"{MM_DATA}/{MM_NAME}.csv",
            code=code("multimodal upper-bounds"),
        output:
            f"{MM_RESULTS}/upper_bounds_{MM_NAME}.csv",
        log:
            f"{MM_RESULTS}/logs/upper_bounds.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            name=MM_NAME,
            data=lambda wildcards: MM_DATA,
            results=lambda wildcards: MM_RESULTS,
        shell:
            "python -m clipdr multimodal upper-bounds {params.name} --data {params.data:q} --results"
            " {params.results:q} > {log} 2>&1"

    rule mm_report:
        input:
            retrieved=mm_models("retrieval.csv", MULTIMODAL["retrieved"]),
            leaky=mm_models("leaky.csv", MULTIMODAL["leaky"]),
            graded=mm_models("curves.csv", MULTIMODAL["graded"]),
            sanity_checks=mm_models("sanity_checks.csv", MULTIMODAL["controlled"]),
            noise=f"{MM_RESULTS}/noise.json",
            upper_bounds=f"{MM_RESULTS}/upper_bounds_{MM_NAME}.csv",
            template=package_file("multimodal/report/section.html"),
            templates=TABLE_TEMPLATES,
            code=code("multimodal report"),
        output:
            page=f"{MM_RESULTS}/report.html",
            html=f"{MM_RESULTS}/section.html",
            section=f"{MM_RESULTS}/section.json",
        log:
            f"{MM_RESULTS}/logs/report.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            folders=mm_models(""),
            held_out=MULTIMODAL["held_out"],
            data=lambda wildcards: MM_DATA,
            results=lambda wildcards: MM_RESULTS,
        shell:
            "python -m clipdr multimodal report {params.folders} {params.held_out} --data"
            " {params.data:q} --results {params.results:q} > {log} 2>&1"

    rule mm_track:
        input:
            f"{MM_RESULTS}/report.html",
            code=code("track"),
        output:
            touch(f"{MM_RESULTS}/.tracked"),
        log:
            f"{MM_RESULTS}/logs/track.log",
        conda:
            "../../environment.yml"
        threads: 1
        params:
            results=lambda wildcards: MM_RESULTS,
        shell:
            "python -m clipdr track --results {params.results:q} > {log} 2>&1"

    rule multimodal:
        input:
            f"{MM_RESULTS}/report.html",
            f"{MM_RESULTS}/.tracked",
