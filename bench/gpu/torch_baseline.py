"""Times PyTorch at the same shapes: full attention (SDPA with enable_gqa), and the naive
composition of the sparse step (slices in bf16, softmax, mean, topk, gather, SDPA).

Prints one JSON line a configuration. Needs a PyTorch with CUDA.
"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

Q_HEADS, KV_HEADS, DIM, CHUNKS, BUDGET = 32, 8, 128, 24, 256
SINKS, RECENT = 4, 64


def median_us(work, sets, launches=15):
    """Median time of one of `sets` steps that `work` does, from a graph of them."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    for _ in range(3):
        graph.replay()
    times = []
    for _ in range(launches):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times) / sets


def naive(q, k, v, slices, chosen_dims):
    """One step as one would write it: `slices` are the chosen dims of k, [B, 8, T, 48]."""
    batch, tokens = k.shape[0], k.shape[2]
    group = Q_HEADS // KV_HEADS
    queries = q.view(batch, KV_HEADS, group, DIM)[..., chosen_dims]
    scores = (queries @ slices.transpose(-1, -2)) * DIM**-0.5
    scores = torch.softmax(scores.float(), dim=-1).mean(dim=2)
    scores[..., :SINKS] = 2.0
    scores[..., tokens - RECENT :] = 2.0
    rows = torch.topk(scores, BUDGET, dim=-1).indices
    rows = rows.unsqueeze(-1).expand(-1, -1, -1, DIM)
    return F.scaled_dot_product_attention(
        q, torch.gather(k, 2, rows), torch.gather(v, 2, rows), enable_gqa=True
    )


def main():
    torch.manual_seed(0)
    chosen_dims = torch.arange(2 * CHUNKS, device="cuda")
    for tokens in (8192, 32768, 131072, 1048576):
        for batch in (1, 4, 8, 16):
            if tokens > 131072 and batch > 1:
                continue
            bytes_of_set = 2 * batch * KV_HEADS * tokens * DIM * 2
            sets = max(2, min(16, (1 << 30) // bytes_of_set))
            shape = (batch, KV_HEADS, tokens, DIM)
            k = [torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in range(sets)]
            v = [torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in range(sets)]
            q = torch.randn((batch, Q_HEADS, 1, DIM), dtype=torch.bfloat16, device="cuda")
            full = median_us(
                lambda: [
                    F.scaled_dot_product_attention(q, k[i], v[i], enable_gqa=True)
                    for i in range(sets)
                ],
                sets,
            )
            slices = [x[..., : 2 * CHUNKS].contiguous() for x in k]
            composed = median_us(
                lambda: [naive(q, k[i], v[i], slices[i], chosen_dims) for i in range(sets)], sets
            )
            line = {"case": "torch", "batch": batch, "tokens": tokens, "full_us": round(full, 2),
                    "naive_us": round(composed, 2), "sets": sets}
            print(json.dumps(line), flush=True)
            del k, v, slices
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
