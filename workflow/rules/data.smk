# Fundus images -> one packed array and one manifest per domain.

if SYNTHETIC:

    rule synthesize:
        input:
            code=code("synthesize"),
        output:
            images=directory(expand(f"{study.raw}/images/{{domain}}", domain=SYNTHETIC)),
            splits=expand(
                f"{study.raw}/splits/{{domain}}_{{split}}.txt",
                domain=SYNTHETIC,
                split=["train", "crossval"],
            ),
            patients=f"{study.raw}/patients.csv",
        log:
            f"{RESULTS}/logs/synthesize.log",
        conda:
            "../../environment.yml"
        threads: 16  # at most: Snakemake lowers it to --cores
        params:
            raw=lambda wildcards: study.raw,
            options="--patients {0.patients} --size {0.size} --seed {0.seed}".format(
                study.synthetic
            ),
            domains=",".join(SYNTHETIC),
        shell:
            "python -m clipdr synthesize {params.raw:q} --domains {params.domains} {params.options}"
            " --processes {threads} > {log} 2>&1"


rule prepare:
    input:
        lists=lambda wildcards: study.image_lists(wildcards.domain),
        images=lambda wildcards: (
            f"{study.raw}/images/{wildcards.domain}" if wildcards.domain in SYNTHETIC else []
        ),
        code=code("prepare"),
    output:
        manifest=f"{DATA}/manifests/{{domain}}.csv",
        store=f"{DATA}/store/{{domain}}.npy",
        rejected=f"{DATA}/rejected/{{domain}}.csv",
        receipt=f"{DATA}/receipts/{{domain}}.json",
    log:
        f"{RESULTS}/logs/prepare/{{domain}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        raw=lambda wildcards: study.raw,
        options=lambda wildcards: study.prepare_options(wildcards.domain),
    shell:
        "python -m clipdr prepare {wildcards.domain} --raw {params.raw:q} --data {params.data:q}"
        " {params.options} --processes {threads} > {log} 2>&1"


# Target of the DVC stage `data`.
rule prepared:
    input:
        MANIFESTS,
