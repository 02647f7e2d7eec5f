import torch
import torch.nn.functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv

edges = torch.randint(0, 30, (2, 120))
data = Data(x=torch.randn(30, 8), edge_index=edges, y=torch.randint(3, (30,)))
data.train_mask = torch.rand(30) > 0.3


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GCNConv(8, 16), GATConv(16, 3, heads=2, concat=False)

    def forward(self, data):
        x = F.relu(self.conv1(data.x, data.edge_index))
        return self.conv2(F.dropout(x, training=self.training), data.edge_index)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(5):
    model.train()
    optimizer.zero_grad()
    out = model(data)
    loss = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
model.eval()
accuracy = (model(data).argmax(1) == data.y).float().mean().item()
