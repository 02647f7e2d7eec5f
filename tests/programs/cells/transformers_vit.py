import torch
from transformers import ViTConfig, ViTForImageClassification

model = ViTForImageClassification(
    ViTConfig(image_size=16, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=2)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
images, labels = torch.randn(8, 3, 16, 16), torch.randint(2, (8,))
for _ in range(3):
    optimizer.zero_grad()
    loss = model(pixel_values=images, labels=labels).loss
    loss.backward()
    optimizer.step()
