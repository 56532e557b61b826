#!/usr/bin/env python3
"""What serving costs without Rasq: a decoder of the same shape that keeps every key and value.

PyTorch, bf16, one GPU, random weights; attention is scaled_dot_product_attention with its flash
backend, grouped heads included, over the whole cache. It measures
  decode  tokens/s of B sequences that have --history tokens each, for B = 1, 2, 4, ... and the most
          that fit, launched step by step and as a CUDA graph;
  append  tokens/s of one chunk of --chunk tokens behind each of --contexts tokens. The lm_head,
          which a chunk does not need, is left out.
It prints a line to read and a line of JSON for each figure. What does not fit is said, never
approximated. The caches hold random values: a figure here is a speed, the text is noise. Biases and
the scaling of rotary frequencies, where the config has them, are left out: they cost nothing. A
decode step writes the cache's last token each time, so that its graph can be replayed: over some
tens of steps a history this long would not have grown to speak of.

  full_kv_baseline.py --config DIR/config.json [--parts ceilings,decode,append] [--history 131072]
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

GIB = 2**30
DEFAULT_CONFIG = (
    pathlib.Path(__file__).resolve().parents[2] / "models/llama-3.1-8b-shape/config.json")


@dataclasses.dataclass
class Shape:
    """A decoder's shape; the fields' names are those of Hugging Face's config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    head_dim: int = 0  # 0: hidden_size / num_attention_heads
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False

    @staticmethod
    def load(path):
        config = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        names = [field.name for field in dataclasses.fields(Shape)]
        shape = Shape(**{name: config[name] for name in names if config.get(name) is not None})
        shape.head_dim = shape.head_dim or shape.hidden_size // shape.num_attention_heads
        return shape

    def kv_bytes(self, tokens):
        """Of one sequence, in bf16."""
        return 2 * 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * tokens


def rotate(x, cos, sin):
    """Rotary embedding, halves convention: x [..., n, head_dim], cos and sin [n, head_dim / 2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Decoder:
    """Llama's decoder with random weights. Each weight matrix is [out, in]."""

    def __init__(self, shape, device):
        self.shape = s = shape
        self.device = device

        def weight(*dims):
            return torch.empty(*dims, dtype=torch.bfloat16, device=device).normal_(std=0.02)

        def ones():
            return torch.ones(s.hidden_size, dtype=torch.bfloat16, device=device)

        heads = s.num_attention_heads + 2 * s.num_key_value_heads
        self.embed = weight(s.vocab_size, s.hidden_size)
        self.lm_head = self.embed if s.tie_word_embeddings else weight(s.vocab_size, s.hidden_size)
        self.final_norm = ones()
        self.layers = [
            {
                "attention_norm": ones(),
                "qkv": weight(heads * s.head_dim, s.hidden_size),
                "o": weight(s.hidden_size, s.num_attention_heads * s.head_dim),
                "mlp_norm": ones(),
                "gate_up": weight(2 * s.intermediate_size, s.hidden_size),
                "down": weight(s.hidden_size, s.intermediate_size),
            }
            for _ in range(s.num_hidden_layers)
        ]
        # Angles in double: positions reach a million.
        halves = torch.arange(0, s.head_dim, 2, dtype=torch.float64, device=device)
        self.frequencies = s.rope_theta ** (-halves / s.head_dim)

    def layer_weights(self):
        return sum(w.numel() for layer in self.layers for w in layer.values())

    def new_cache(self, num_seqs, tokens):
        """For each layer its keys and values, [num_seqs, num_kv_heads, tokens, head_dim] each."""
        dims = (num_seqs, self.shape.num_key_value_heads, tokens, self.shape.head_dim)
        return [
            tuple(torch.empty(dims, dtype=torch.bfloat16, device=self.device).normal_()
                  for _ in range(2)) for _ in range(self.shape.num_hidden_layers)
        ]

    def norm(self, x, weight):
        return F.rms_norm(x, (self.shape.hidden_size,), weight, self.shape.rms_norm_eps)

    def forward(self, ids, cache, start):
        """Reads ids [num_seqs, n] behind the cache's first `start` tokens and writes their keys and
        values there. Returns [num_seqs, n, hidden]."""
        s = self.shape
        n = ids.shape[1]
        end = start + n
        positions = torch.arange(start, end, dtype=torch.float64, device=self.device)
        angles = torch.outer(positions, self.frequencies)
        cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
        # A token reads itself and all before it: for one token that is no mask at all.
        mask = None if n == 1 else causal_lower_right(n, end)
        x = F.embedding(ids, self.embed)
        for w, (keys, values) in zip(self.layers, cache):
            heads = F.linear(self.norm(x, w["attention_norm"]), w["qkv"])
            heads = heads.unflatten(-1, (-1, s.head_dim)).transpose(1, 2)  # [seq, head, n, dim]
            q, k, v = heads.split(
                (s.num_attention_heads, s.num_key_value_heads, s.num_key_value_heads), dim=1)
            keys[:, :, start:end] = rotate(k, cos, sin)
            values[:, :, start:end] = v
            y = F.scaled_dot_product_attention(
                rotate(q, cos, sin), keys[:, :, :end], values[:, :, :end], attn_mask=mask,
                enable_gqa=True)
            x = x + F.linear(y.transpose(1, 2).flatten(2), w["o"])
            gate, up = F.linear(self.norm(x, w["mlp_norm"]), w["gate_up"]).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, w["down"])
        return self.norm(x, self.final_norm)

    def decode_step(self, ids, cache, start):
        """Greedy: ids [num_seqs, 1] become the tokens that follow them."""
        hidden = self.forward(ids, cache, start)
        ids.copy_(F.linear(hidden[:, -1], self.lm_head).argmax(dim=-1, keepdim=True))


class Bench:
    """What the parts share: the clock, the GPU, and how a figure is printed."""

    def __init__(self, device, seconds):
        self.device = device
        self.deadline = time.monotonic() + seconds
        self.errors = 0

    def cuda(self):
        return self.device == "cuda"

    def report(self, text, **figures):
        print(text)
        print(json.dumps(figures), flush=True)

    def median_ms(self, run, repeats):
        """Of `repeats` runs in a row; the time between two ends, so a slow launch counts."""
        if self.cuda():
            ends = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
            ends[0].record()
            for end in ends[1:]:
                run()
                end.record()
            torch.cuda.synchronize()
            return statistics.median(a.elapsed_time(b) for a, b in zip(ends, ends[1:]))
        times = [time.perf_counter()]
        for _ in range(repeats):
            run()
            times.append(time.perf_counter())
        return 1e3 * statistics.median(b - a for a, b in zip(times, times[1:]))

    def release(self):
        gc.collect()
        if self.cuda():
            torch.cuda.empty_cache()

    def free_bytes(self):
        return torch.cuda.mem_get_info()[0] if self.cuda() else 0

    def attempt(self, name, figures, measure):
        """Reports measure()'s (text, figures), or why there are none. Returns whether there are."""
        if time.monotonic() > self.deadline:
            self.report(f"{name}: skipped, out of time", **figures, skipped="time")
            return False
        try:
            text, measured = measure()
        except torch.cuda.OutOfMemoryError:
            self.report(f"{name}: does not fit", **figures, fits=False)
            return False
        except RuntimeError as error:
            self.errors += 1
            self.report(f"{name}: {error}", **figures, error=str(error))
            return False
        self.report(f"{name}: {text}", **figures, fits=True, **measured)
        return True


def measure_ceilings(bench):
    """What the machine does at best, to judge the others by."""

    def copy():
        source = torch.ones(2 * GIB if bench.cuda() else 2**20, dtype=torch.int8,
                            device=bench.device)
        target = torch.empty_like(source)
        target.copy_(source)
        ms = bench.median_ms(lambda: target.copy_(source), 10)
        gbps = 2 * source.numel() / ms / 1e6
        return f"{gbps:,.0f} GB/s, read and written", {"gb_per_s": gbps}

    def product():
        n = 8192 if bench.cuda() else 128
        a = torch.randn(n, n, device=bench.device).bfloat16()
        b = torch.randn(n, n, device=bench.device).bfloat16()
        c = a @ b
        ms = bench.median_ms(lambda: torch.matmul(a, b, out=c), 10)
        tflops = 2 * n**3 / ms / 1e9
        return f"{tflops:,.0f} TFLOP/s", {"tflop_per_s": tflops}

    bench.attempt("copy", {"part": "ceiling", "what": "copy"}, copy)
    bench.attempt("bf16 product", {"part": "ceiling", "what": "product"}, product)
    bench.release()


def capture(step):
    """`step` as a CUDA graph. It must have run before: libraries set themselves up at first use."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def measure_decode(bench, model, history, max_sessions, steps):
    """From one sequence to the most that fit, all in one cache: a smaller batch is its start."""
    session_bytes = model.shape.kv_bytes(history)
    fit = max_sessions
    if bench.cuda():
        # 1 GiB for activations and the graph; should that be too little, the steps below say so.
        fit = max(0, min(fit, (bench.free_bytes() - GIB) // session_bytes))
    cache = None
    while cache is None and fit > 0:
        try:
            cache = model.new_cache(fit, history)
        except torch.cuda.OutOfMemoryError:
            fit -= 1
        bench.release()  # not in the handler, where the exception still holds what was allocated
    # Every weight is read once a step, but of the embedding only the tokens' rows.
    weight_bytes = 2 * (model.layer_weights() + model.lm_head.numel())

    def decode(num_seqs, graphed):
        own = [(keys[:num_seqs], values[:num_seqs]) for keys, values in cache]
        ids = torch.zeros(num_seqs, 1, dtype=torch.int64, device=bench.device)

        def step():
            model.decode_step(ids, own, history - 1)

        for _ in range(3):
            step()
        graph = capture(step) if graphed else None
        ms = bench.median_ms(graph.replay if graph else step, steps)
        rate = num_seqs / ms * 1e3
        gbps = (weight_bytes + num_seqs * session_bytes) / ms / 1e6
        return (f"{rate:,.1f} tokens/s, {ms:.2f} ms a step, {gbps:,.0f} GB/s",
                {"tokens_per_s": rate, "ms_per_step": ms, "gb_per_s": gbps})

    sizes = [2**i for i in range(fit.bit_length()) if 2**i < fit] + ([fit] if fit else [])
    most = 0
    graphs = bench.cuda()
    for num_seqs in sizes:
        for graphed in (False, True) if graphs else (False,):
            name = f"decode {num_seqs} x {history} tokens" + (", CUDA graph" if graphed else "")
            figures = {"part": "decode", "sessions": num_seqs, "history_tokens": history,
                       "cuda_graph": graphed}
            done = bench.attempt(name, figures, lambda n=num_seqs, g=graphed: decode(n, g))
            most = num_seqs if done else most
            graphs = graphs and (done or not graphed)  # one that failed is not tried again
            bench.release()
    capped = most == max_sessions
    bench.report(
        f"sessions of {history} tokens that fit: {most}{' or more' if capped else ''}, "
        f"{session_bytes / GIB:.2f} GiB each", part="capacity", history_tokens=history,
        sessions=most, capped=capped, session_bytes=session_bytes)


def measure_append(bench, model, contexts, chunk):
    shape = model.shape

    def append(context):
        cache = model.new_cache(1, context + chunk)
        ids = torch.randint(shape.vocab_size, (1, chunk), device=bench.device)

        def run():
            model.forward(ids, cache, context)

        first_ms = bench.median_ms(run, 1)  # also the warm-up
        ms = bench.median_ms(run, max(2, min(10, int(2000 / first_ms))))
        rate = chunk / ms * 1e3
        reads = chunk * context + chunk * (chunk + 1) // 2  # pairs of a token and one it reads
        flop = (2 * model.layer_weights() * chunk +
                4 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * reads)
        tflops = flop / ms / 1e9
        return (f"{rate:,.0f} tokens/s, {ms:.1f} ms a chunk of {chunk}, {tflops:,.0f} TFLOP/s",
                {"tokens_per_s": rate, "ms_per_chunk": ms, "tflop_per_s": tflops})

    for context in contexts:
        need = shape.kv_bytes(context + chunk)
        name = (f"append after {context} tokens ({need / GIB:.1f} GiB of cache, "
                f"{bench.free_bytes() / GIB:.1f} GiB free)")
        figures = {"part": "append", "context_tokens": context, "chunk_tokens": chunk,
                   "cache_bytes": need}
        bench.attempt(name, figures, lambda c=context: append(c))
        bench.release()


def main():
    parser = argparse.ArgumentParser(
        description="Decode and append of a decoder over a full KV cache, in PyTorch.")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="a config.json: the shape")
    parser.add_argument("--parts", default="ceilings,decode,append")
    parser.add_argument("--history", type=int, default=128 * 1024, help="decode: tokens a sequence")
    parser.add_argument("--max-sessions", type=int, default=64, help="decode: try no more")
    parser.add_argument("--steps", type=int, default=20, help="decode: timed steps")
    parser.add_argument("--contexts", default="4096,65536,131072,524288,1048576",
                        help="append: tokens behind the chunk")
    parser.add_argument("--chunk", type=int, default=4096, help="append: tokens at once")
    parser.add_argument("--max-seconds", type=float, default=110, help="begin nothing after these")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="cpu: only to try this program, on a tiny shape")
    args = parser.parse_args()

    bench = Bench(args.device, args.max_seconds)
    shape = Shape.load(args.config)
    torch.manual_seed(1)
    # On a GPU flash attention or an error; never, unseen, a slower one.
    backends = [SDPBackend.FLASH_ATTENTION] + ([] if bench.cuda() else [SDPBackend.MATH])
    with torch.inference_mode(), sdpa_kernel(backends):
        device = torch.cuda.get_device_name() if bench.cuda() else "cpu"
        model = Decoder(shape, args.device)
        parameters = model.layer_weights() + model.lm_head.numel() + model.embed.numel()
        bench.report(f"torch {torch.__version__} on {device}: {parameters / 1e9:.2f} B parameters, "
                     f"{bench.free_bytes() / GIB:.1f} GiB left for caches", part="setting",
                     torch=torch.__version__, device=device, shape=dataclasses.asdict(shape),
                     free_bytes=bench.free_bytes())
        parts = args.parts.split(",")
        if "ceilings" in parts:
            measure_ceilings(bench)
        if "decode" in parts:
            measure_decode(bench, model, args.history, args.max_sessions, args.steps)
            bench.release()
        if "append" in parts:
            measure_append(bench, model, [int(c) for c in args.contexts.split(",")], args.chunk)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
