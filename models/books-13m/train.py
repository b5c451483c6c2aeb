"""Trains books-13m: a byte-level model of Llama's architecture that predicts
prose and looks facts up in 8192 bytes of context.

    python3 train.py --text books.txt --out new-model --minutes 15

--text is the training text, 100 MB or more of plain English. The books that came
with the shipped model are not needed, but a smaller or narrower text gives a
weaker model. --held-out is a text for the report at the end (default: the last
2 % of --text, which is then not trained on). The result is config.json and
model.safetensors, as Transformers and Passband read them.

Needs one GPU with 80 GB for the batch sizes below (--batch-bytes lowers them),
PyTorch 2.9 or newer (torch.optim.Muon), NumPy and safetensors. The schedule
follows the clock, not a number of steps: another GPU, another number of steps.
"""
import argparse
import collections
import dataclasses
import json
import math
import multiprocessing
import os
import re
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

BYTES = 256  # the vocabulary


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int = 6
    hidden: int = 384
    inner: int = 1024
    query_heads: int = 8
    kv_heads: int = 2
    head_dim: int = 128
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5
    context: int = 8192


@dataclasses.dataclass(frozen=True)
class Phase:
    """Documents of `context` bytes until this share of the time is over."""

    context: int
    until: float


PHASES = (Phase(context=2048, until=0.5), Phase(context=8192, until=1.0))
BATCH_BYTES = 131_072  # 64 documents of 2048, 16 of 8192
SYNTHETIC_SHARE = 0.35
NEEDLE_SHARE = 0.7  # of the synthetic documents; the others are recall
POOL_DOCUMENTS = 5600  # synthetic documents made for each phase
MATRIX_RATE = 0.02
OTHER_RATE = 3e-3
WARM_UP_STEPS = 200
DECAY_FROM = 0.6  # share of the time with the full rate; then a straight line
LAST_RATE = 0.02  # down to this share of it


# The model. Modules carry Transformers' names, so that the state is the checkpoint.


def rotary_angles(shape):
    """cos and sin of every position's angles, [context, head_dim / 2] each."""
    chunk = torch.arange(0, shape.head_dim, 2, dtype=torch.float32)
    frequency = shape.rope_theta ** (-chunk / shape.head_dim)
    angle = torch.arange(shape.context, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(heads, cos, sin):
    """heads: [batch, heads, positions, head_dim]; dimension i turns with i + half."""
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.q_proj = linear(shape.hidden, shape.query_heads * shape.head_dim)
        self.k_proj = linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.v_proj = linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.o_proj = linear(shape.query_heads * shape.head_dim, shape.hidden)

    def heads(self, projected):
        return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(self, x, cos, sin):
        mixed = functional.scaled_dot_product_attention(
            rotate(self.heads(self.q_proj(x)), cos, sin),
            rotate(self.heads(self.k_proj(x)), cos, sin),
            self.heads(self.v_proj(x)),
            is_causal=True,
            enable_gqa=True,
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = linear(shape.hidden, shape.inner)
        self.up_proj = linear(shape.hidden, shape.inner)
        self.down_proj = linear(shape.inner, shape.hidden)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        cos, sin = rotary_angles(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.embed_tokens = nn.Embedding(BYTES, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.initialise(shape)

    def initialise(self, shape):
        # What writes into the residual stream starts smaller, the more layers write.
        writers = 0.02 / math.sqrt(2 * shape.layers)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=writers if writes else 0.02)

    def forward(self, tokens):
        """Logits [batch, positions, 256]; the embedding is also the head."""
        x = self.embed_tokens(tokens)
        length = tokens.shape[1]
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        x = self.norm(x)
        return (x @ self.embed_tokens.weight.to(x.dtype).t()).float()


def surprise(model, documents):
    """Mean nats per byte, and the logits, of documents [batch, context + 1]."""
    logits = model(documents[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), documents[:, 1:].flatten()), logits


# The documents. Text is a NumPy array of bytes; a document of context T has T + 1.


def key_words(text):
    """Frequent words, without the most frequent: what needles are about."""
    counts = collections.Counter(re.findall(rb"\b[a-z]{4,9}\b", text[:8_000_000].tobytes()))
    return [word for word, _ in counts.most_common(6000)][800:]


def excerpt(rng, text, length):
    start = int(rng.integers(0, len(text) - length))
    return text[start : start + length].tobytes()


def needle_document(rng, context, text, words, keys=None, queries=None):
    """The document, and for each query where its six digits begin."""
    keys = keys or int(rng.integers(1, max(2, context // 384)))
    queries = min(keys, queries or int(rng.integers(1, min(keys, 12) + 1)))
    facts = [
        (words[i], b"%06d" % rng.integers(0, 1_000_000))
        for i in rng.choice(len(words), keys, replace=False)
    ]
    tail, ends = b"", []
    for i in rng.choice(keys, queries, replace=False):
        word, code = facts[i]
        tail += b"\nWhat is the code for %s? The code for %s is %s." % (word, word, code)
        ends.append(len(tail) - 1)
    tail += b"\n"
    lines = [b"\nThe code for %s is %s.\n" % fact for fact in facts]
    body = excerpt(rng, text, context + 1 - len(tail) - sum(map(len, lines)))
    places = [0, *sorted(int(p) for p in rng.integers(0, len(body), keys)), len(body)]
    pieces = [body[a:b] for a, b in zip(places, places[1:])]
    head = pieces[0] + b"".join(line + piece for line, piece in zip(lines, pieces[1:]))
    return head + tail, [len(head) + end - 6 for end in ends]


def recall_document(rng, context, text, quoted=160):
    count = int(rng.integers(1, 5))
    frame = (b'\nRecall: "', b'"\n')
    body = excerpt(rng, text, context + 1 - count * (quoted + sum(map(len, frame))))
    starts = rng.integers(0, len(body) - quoted, count)
    return body + b"".join(frame[0] + body[s : s + quoted] + frame[1] for s in starts)


# What the document makers need, inherited when they fork: pickling the text for
# each of them would take longer than the work.
SOURCE = {}


def make_documents(job):
    seed, count, context = job
    rng = np.random.default_rng(seed)
    text, words = SOURCE["text"], SOURCE["words"]
    documents = [
        needle_document(rng, context, text, words)[0]
        if rng.random() < NEEDLE_SHARE
        else recall_document(rng, context, text)
        for _ in range(count)
    ]
    return np.frombuffer(b"".join(documents), dtype=np.uint8).reshape(count, context + 1)


def fill_pool(context, seed, text, words, processes):
    """Synthetic documents [count, context + 1]."""
    SOURCE.update(text=text, words=words)
    jobs = 28
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = pool.map(
            make_documents, [(seed + i, POOL_DOCUMENTS // jobs, context) for i in range(jobs)]
        )
    return np.concatenate(parts)


def draw_batch(rng, context, size, text, synthetic):
    plain = size - int(size * SYNTHETIC_SHARE)
    starts = rng.integers(0, len(text) - context - 1, plain)
    rows = [text[s : s + context + 1] for s in starts]
    rows += [synthetic[i] for i in rng.integers(0, len(synthetic), size - plain)]
    return torch.from_numpy(np.stack(rows)).long()


# Training.


def make_optimisers(model):
    """Muon for the matrices inside the layers; AdamW for embedding and norms."""
    named = list(model.named_parameters())
    matrices = [w for name, w in named if w.ndim == 2 and "embed" not in name]
    others = [w for name, w in named if w.ndim != 2 or "embed" in name]
    return (
        (torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, momentum=0.95), MATRIX_RATE),
        (torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0), OTHER_RATE),
    )


def rate_factor(step, progress):
    warm = min(1.0, step / WARM_UP_STEPS)
    if progress < DECAY_FROM:
        return warm
    return warm * max(LAST_RATE, (1.0 - progress) / (1.0 - DECAY_FROM))


def train(model, text, pools, options):
    optimisers = make_optimisers(model)
    compiled = torch.compile(model)
    rng = np.random.default_rng(options.seed)
    began = time.monotonic()
    step = seen = 0
    next_report = 0.0
    for phase, synthetic in zip(PHASES, pools):
        size = max(1, options.batch_bytes // phase.context)
        while (progress := (time.monotonic() - began) / (60 * options.minutes)) < phase.until:
            batch = draw_batch(rng, phase.context, size, text, synthetic)
            with torch.autocast("cuda", torch.bfloat16):
                loss, _ = surprise(compiled, batch.pin_memory().cuda(non_blocking=True))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser, rate in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate * rate_factor(step, progress)
                optimiser.step()
                optimiser.zero_grad()
            step += 1
            seen += size * phase.context
            if progress >= next_report:
                next_report = progress + 0.02
                bits = loss.item() / math.log(2)
                print(f"{progress:4.0%} step {step} context {phase.context} "
                      f"{bits:.3f} bits/byte, {seen / 1e6:.0f} MB seen", flush=True)


@torch.no_grad()
def report(model, text, words, context, documents=32):
    """Prints bits per byte, and the share of needle queries answered right."""
    rng = np.random.default_rng(123)
    bits, right, asked = [], 0, 0
    for _ in range(documents):
        plain = excerpt(rng, text, context + 1)
        needle, answers = needle_document(
            rng, context, text, words, keys=max(1, context // 512), queries=4
        )
        batch = torch.tensor([list(plain), list(needle)], device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            loss, _ = surprise(model, batch[:1])
            said = surprise(model, batch[1:])[1][0].argmax(-1).tolist()
        bits.append(loss.item() / math.log(2))
        right += sum(bytes(said[a - 1 : a + 5]) == needle[a : a + 6] for a in answers)
        asked += len(answers)
    print(f"context {context}: {np.mean(bits):.3f} bits/byte, needle {right}/{asked}", flush=True)


def save(model, shape, folder):
    os.makedirs(folder, exist_ok=True)
    state = {
        f"model.{name}": weight.to(torch.bfloat16).contiguous().cpu()
        for name, weight in model.state_dict().items()
    }
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.query_heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": BYTES,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out, indent=1)
        out.write("\n")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", required=True, help="training text, a plain file")
    parser.add_argument("--held-out", help="text for the report at the end")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=14.7, help="training time")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--batch-bytes", type=int, default=BATCH_BYTES, help="bytes in a step")
    parser.add_argument("--processes", type=int, default=os.cpu_count(),
                        help="processes that make documents")
    return parser.parse_args()


def main():
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    text = np.fromfile(options.text, dtype=np.uint8)
    if options.held_out:
        held_out = np.fromfile(options.held_out, dtype=np.uint8)
    else:
        text, held_out = np.split(text, [len(text) * 98 // 100])
    words = key_words(text)
    # Before the GPU is touched: processes fork.
    pools = [
        fill_pool(phase.context, options.seed + 1000 * (i + 1), text, words, options.processes)
        for i, phase in enumerate(PHASES)
    ]
    shape = Shape()
    model = Llama(shape).cuda()
    print(f"{sum(w.numel() for w in model.parameters()) / 1e6:.1f} million parameters", flush=True)
    train(model, text, pools, options)
    save(model, shape, options.out)
    model.eval()
    for context in (1024, 2048, 4096, 8192):
        report(model, held_out, words, context)


if __name__ == "__main__":
    main()
