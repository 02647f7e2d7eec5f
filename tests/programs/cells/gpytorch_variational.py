import gpytorch
import torch
from torch import nn


class Features(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


class DeepKernel(gpytorch.models.ApproximateGP):
    def __init__(self, points):
        distribution = gpytorch.variational.CholeskyVariationalDistribution(points.size(0))
        strategy = gpytorch.variational.VariationalStrategy(self, points, distribution, learn_inducing_locations=True)
        super().__init__(strategy)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=2))

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


x, y = torch.randn(64, 3), torch.randn(64)
features, model = Features(), DeepKernel(torch.randn(12, 2))
likelihood = gpytorch.likelihoods.GaussianLikelihood()
optimizer = torch.optim.Adam([*features.parameters(), *model.parameters(), *likelihood.parameters()], lr=0.02)
elbo = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=64)
for _ in range(5):
    for part in torch.randperm(64).split(32):
        optimizer.zero_grad()
        loss = -elbo(model(features(x[part])), y[part])
        loss.backward()
        optimizer.step()
