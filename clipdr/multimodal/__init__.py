"""The knowledge-enhanced multimodal transformer: photograph, narrative and structured row of an eye -> two grades, and retrieval.

After Samanta et al. (2025, arXiv 2512.19663), of which the abstract alone was available: every size and weight here is ours. Nothing of
the rest of the package imports this folder, and this folder does not import its sister clipdr.pretrain.
"""
