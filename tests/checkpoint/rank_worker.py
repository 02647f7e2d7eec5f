"""One of several gloo processes: runs the snippets that come by its standard input, and answers each with one line of JSON.

    python rank_worker.py RANK WORLD STORE

A snippet sees ``rank``, ``world`` and what earlier snippets have left, and calls ``say(...)`` with what the test shall see.
"""

from __future__ import annotations

import json
import sys
import traceback

import torch
import torch.distributed as dist

rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
answers = sys.stdout
sys.stdout = sys.stderr
namespace = {"rank": rank, "world": world, "torch": torch, "dist": dist}
for line in sys.stdin:
    said: list[object] = []
    namespace["say"] = said.append
    try:
        exec(compile(json.loads(line), f"<rank {rank}>", "exec"), namespace)
        answer: dict[str, object] = {"said": said}
    except Exception as error:
        answer = {"said": said, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    print(json.dumps(answer), file=answers, flush=True)
dist.destroy_process_group()
