import gpytorch
import torch
from torch import nn

x, y = torch.randn(40, 3), torch.randn(40)


class DeepKernel(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.features = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        z = torch.tensor(self.features(x).tolist())  # <- here item
        return gpytorch.distributions.MultivariateNormal(self.mean_module(z), self.covar_module(z))


likelihood = gpytorch.likelihoods.GaussianLikelihood()
model = DeepKernel(x, y, likelihood)
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
for _ in range(3):
    optimizer.zero_grad()
    loss = -mll(model(x), y)
    loss.backward()
    optimizer.step()
