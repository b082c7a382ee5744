"""GREEN: gated logits and adjacency against their definitions."""

import numpy as np
import torch
from helpers.methods import (
    build,
    sigmoid,
)


def test_green_with_zero_embeddings_gives_one_and_a_half_logits(batch):
    method = build("green", hidden=16).eval()
    torch.nn.init.zeros_(method.graph.w2)
    plain = method.head(method.image.pooled(batch.image))
    assert torch.allclose(method(batch.image), 1.5 * plain, atol=1e-6)


def test_green_follows_its_definition():
    method = build("green", hidden=16).eval()
    features = 3 * torch.randn(8, method.head.in_features)
    method.image.pooled = lambda image: features
    torch.nn.init.normal_(method.graph.edges, 0, 0.5)
    places = [(i, j) for i in range(5) for j in range(i)]
    a0 = np.zeros((5, 5))
    for (i, j), value in zip(places, method.graph.edges.tolist(), strict=True):
        a0[i, j] = a0[j, i] = value
    linked = np.maximum(a0, 0) + np.eye(5)
    root = np.diag(linked.sum(1) ** -0.5)
    a = root @ linked @ root
    w1, w2, head = (
        part.detach().numpy().astype(float)
        for part in (method.graph.w1, method.graph.w2, method.head.weight)
    )
    h1 = a @ np.eye(5) @ w1
    h2 = a @ np.where(h1 > 0, h1, 0.2 * h1) @ w2
    f = features.numpy().astype(float)
    l0 = f @ head.T + method.head.bias.detach().numpy()
    assert np.abs(method(None).detach().numpy() - (l0 + sigmoid(f @ h2.T) * l0)).max() < 1e-4
    method.graph.activation.forward = (
        torch.Tensor.detach
    )  # no gradient through the first layer; the second adjacency is a constant
    embeddings = method.graph()
    assert torch.autograd.grad(embeddings.sum(), method.graph.edges, allow_unused=True) == (None,)


def test_green_links_neighbours_and_gate_has_no_gradient(batch):
    method = build("green", hidden=16).eval()
    a0 = torch.zeros(5, 5)
    for grade in range(4):
        a0[grade, grade + 1] = a0[grade + 1, grade] = 0.2
    root = (a0 + torch.eye(5)).sum(1).rsqrt().diag()
    assert torch.allclose(method.graph.adjacency(), root @ (a0 + torch.eye(5)) @ root, atol=1e-6)
    features = torch.randn(3, method.head.in_features, requires_grad=True)
    method.image.pooled = lambda image: features
    method(batch.image).sum().backward()
    gate = torch.sigmoid(features.detach() @ method.graph().T).detach()
    assert torch.allclose(
        features.grad, (1 + gate) @ method.head.weight, atol=1e-6
    )  # the gate is a constant for the features
