import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood

x = torch.rand(12, 2, dtype=torch.double)
y = (1 - (x - 0.5).norm(dim=1, keepdim=True)) + 0.01 * torch.randn(12, 1, dtype=torch.double)
model = SingleTaskGP(x, y)
fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
acquisition = LogExpectedImprovement(model, best_f=y.max())
bounds = torch.stack([torch.zeros(2), torch.ones(2)]).double()
candidate, value = optimize_acqf(acquisition, bounds=bounds, q=1, num_restarts=2, raw_samples=8)
