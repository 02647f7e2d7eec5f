import torch
import torch.nn.functional as F
from torch_geometric.nn import GCNConv

edges, x = torch.randint(0, 30, (2, 120)), torch.randn(30, 8)
community = torch.randint(3, (30,))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.assign, self.out = GCNConv(8, 16), torch.nn.Linear(16, 3), torch.nn.Linear(3 + 8, 3)

    def forward(self, x, edges):
        scores = self.assign(self.conv(x, edges).relu())
        cluster = F.one_hot(scores.argmax(dim=1), 3).float()  # <- here nondifferentiable
        return self.out(torch.cat([cluster, x], dim=1))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(4):
    optimizer.zero_grad()
    F.cross_entropy(model(x, edges), community).backward()
    optimizer.step()
