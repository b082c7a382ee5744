"""Towers of open_clip, timm and the transformers library, with their weights.

Weights come from a local file, from a package, or from the libraries' own addresses into the cache folder; a missing one is one clear line.
"""

import logging
from pathlib import Path

import torch
from torch import nn

from clipdr import DataError
from clipdr.models.report_encoder import HuggingFaceReports, SmallText
from clipdr.models.text_tower import HuggingFaceText, OpenClipText
from clipdr.models.weights import cached_weights, lite0_weights, read_weights, readable


def trunk_of(image, weights, side):
    """An image tower by name: (module, width of its output or None, pixel mean, pixel std).

    image   : timm/NAME | open_clip/NAME | vit/WIDTH/DEPTH/PATCH
    weights : as clipdr.config.job.Backbone, "random" for vit; "ret_clip:FILE" for the image tower of the authors' released checkpoint
              (open_clip/ViT-B-16-quickgelu; the file is the user's, we have not seen one)
    """
    family, _, name = image.partition("/")
    if family == "timm":
        return timm_tower(name, weights, side)
    if family == "open_clip":
        released = weights.removeprefix("ret_clip:") if weights.startswith("ret_clip:") else ""
        visual = open_clip_model(name, "random" if released else weights, side).visual
        if released:
            state = {
                key.removeprefix("module."): value for key, value in read_weights(released).items()
            }
            state = {
                key.removeprefix("visual."): value.float()
                for key, value in state.items()
                if key.startswith("visual.")
            }
            with readable(released):
                visual.load_state_dict(state)
        return visual, visual.image_mean, visual.image_std
    if family == "vit" and weights == "random":
        from timm.models.vision_transformer import VisionTransformer

        width, depth, patch = map(int, name.split("/"))
        shape = {
            "embed_dim": width,
            "depth": depth,
            "num_heads": max(1, width // 64),
            "num_classes": 0,
        }
        model = VisionTransformer(
            side, patch, global_pool="avg", class_token=False, **shape
        )  # a class token learns nothing from so few
        return model, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    raise DataError(
        f"backbone: image tower {image!r} with weights {weights!r}; use timm/NAME, open_clip/NAME or vit/WIDTH/DEPTH/PATCH"
    )


def image_tower(image, weights, side, width, precision="fp32"):
    """ImageTower of a name, (N, 3, S, S) in [0, 1] -> v (N, E). width: E of towers without a projection of their own."""
    from clipdr.models.image_tower import ImageTower

    trunk, mean, std = trunk_of(image, weights, side)
    own = image.startswith("open_clip/")
    return ImageTower(
        trunk,
        nn.Identity() if own else nn.Linear(trunk.num_features, width, bias=False),
        mean,
        std,
        precision,
    )


def text_encoder(facts, folder):
    """The text encoder that visual.json describes, without weights."""
    if facts["encoder"] == "small":
        return SmallText(facts["vocabulary"], facts["length"])
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder / "text", local_files_only=True)
    return HuggingFaceReports(
        AutoModel.from_config(config),
        AutoTokenizer.from_pretrained(folder / "text"),
        facts["length"],
    )


SMALL = {"width": 128, "heads": 4, "layers": 3, "output_dim": 256}  # the small text tower


def load_text(spec, own):
    """Text tower of a spec (clipdr.config.study.Backbone); own() -> (name, open_clip model) of the image tower."""
    family, _, name = spec.partition("/")
    if family == "hf":
        return hugging_face_text(name)
    import open_clip
    from open_clip.transformer import TextTransformer

    with torch.random.fork_rng(
        devices=[]
    ):  # the same random tower in every process, whatever the run's seed
        torch.manual_seed(0)
        if family == "small":
            return OpenClipText(TextTransformer(**SMALL), open_clip.get_tokenizer("RN50"))
        if family == "open_clip":
            name, _, weights = name.partition("@")
            model = open_clip_model(name, weights or "random", None)
        elif family == "own":
            name, model = own()
        else:
            raise DataError(
                f"backbone: text tower {spec!r} is unknown; use own, small, open_clip/NAME@WEIGHTS or hf/FOLDER"
            )
    tower, tokenizer = getattr(model, "text", model), open_clip.get_tokenizer(name)
    if hasattr(tokenizer, "tokenizer"):  # open_clip's wrapper of a Hugging Face encoder
        return HuggingFaceText(tower.transformer, tokenizer.tokenizer, tower.proj)
    return OpenClipText(tower, tokenizer)


def hugging_face_text(folder):
    """A model of the transformers library from a local folder, with a fixed random projection to the width of the small tower."""
    from transformers import AutoModel, AutoTokenizer

    if not Path(folder).is_dir():
        raise DataError(
            f"backbone: text tower hf/{folder}: no such folder; download the model with its tokenizer into it"
        )
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projection = nn.Linear(
            model.get_input_embeddings().embedding_dim, SMALL["output_dim"], bias=False
        )
    return HuggingFaceText(
        model, AutoTokenizer.from_pretrained(folder, local_files_only=True), projection
    )


def timm_tower(name, weights, side):
    """A timm model without its classifier, with weights of a tag, a file, the package or none: model, pixel mean, pixel std."""
    import timm
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not timm.is_model(name):
        raise DataError(f"backbone: timm has no model {name!r}; see timm.list_models()")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if weights in tags:
        name = f"{name}.{weights}"
    fixed = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, **fixed)
    if weights == "package:efficientnet_lite0":
        state = lite0_weights(model)
    elif weights in tags:
        config = {"hf_hub": f"{model.pretrained_cfg['hf_hub_id']}/model.safetensors"}
        state = read_weights(cached_weights(*name.split(".", 1), config))
    elif weights != "random":
        if not Path(weights).is_file():
            raise DataError(
                f"backbone: timm/{name} has no weights {weights!r}, and no such file is here; its tags are {', '.join(tags)}"
            )
        state = read_weights(weights)
    if weights != "random":
        if isinstance(model, VisionTransformer):
            state = checkpoint_filter_fn(state, model)  # position embeddings at this side
        missing, unexpected = model.load_state_dict(state, strict=False)
        strange = [key for key in unexpected if not key.startswith(("classifier.", "head.", "fc."))]
        if missing or strange:
            bad = (
                f"{len(missing)} tensors missing, {len(strange)} unknown ({(missing + strange)[0]})"
            )
            raise DataError(f"backbone: {weights} does not fit timm/{name}: {bad}")
    config = model.pretrained_cfg
    return model, config["mean"], config["std"]


def open_clip_model(name, weights, side):
    """An open_clip model in float32. weights: a pretrained tag, a file, or "random"; side: pixels of the input, None: the model's own."""
    import open_clip

    if open_clip.get_model_config(name) is None:
        raise DataError(f"backbone: open_clip has no model {name!r}; see open_clip.list_models()")
    logging.getLogger().addFilter(
        lambda record: "No pretrained weights loaded" not in record.getMessage()
    )  # they are loaded below
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None, force_image_size=side)
    config = {}
    if weights != "random":
        config = open_clip.get_pretrained_cfg(name, weights)
        if not config and not Path(weights).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
            raise DataError(
                f"backbone: open_clip/{name} has no weights {weights!r}, and no such file is here; its tags are {tags}"
            )
        path = cached_weights(name, weights, config) if config else weights
        with readable(path):
            open_clip.load_checkpoint(model, str(path))
    model.visual.image_mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    model.visual.image_std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return model
