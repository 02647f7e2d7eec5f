import torch
import torch.nn.functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, GINConv, SAGEConv, global_add_pool


def graph(label):
    n = 6
    return Data(x=torch.randn(n, 4) + label, edge_index=torch.randint(0, n, (2, 14)), y=torch.tensor([label]))


loader = DataLoader([graph(i % 2) for i in range(24)], batch_size=6, shuffle=True)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GINConv(MLP([4, 16, 16]), train_eps=True), SAGEConv(16, 16)
        self.out = MLP([16, 16, 2], norm=None, dropout=0.5)

    def forward(self, x, edge_index, batch):
        x = self.conv2(self.conv1(x, edge_index).relu(), edge_index).relu()
        return self.out(global_add_pool(x, batch))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
total = 0.0
for batch in loader:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch.x, batch.edge_index, batch.batch), batch.y)
    loss.backward()
    total += float(loss) * batch.num_graphs
    optimizer.step()
