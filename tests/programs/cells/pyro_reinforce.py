import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceGraph_ELBO

pyro.clear_param_store()
data = torch.cat([torch.randn(20) - 3, torch.randn(20) + 3])


def model(data):
    weights = pyro.param("weights", torch.ones(2) / 2, constraint=dist.constraints.simplex)
    locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[z], 1.0), obs=data)


def guide(data):
    probs = pyro.param("probs", torch.ones(len(data), 2) / 2, constraint=dist.constraints.simplex)
    with pyro.plate("data", len(data)):
        pyro.sample("z", dist.Categorical(probs))


svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=TraceGraph_ELBO())
losses = [svi.step(data) for _ in range(6)]
