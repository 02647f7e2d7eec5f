import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

model = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
criterion = DiceCELoss(to_onehot_y=True, softmax=True)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
images, masks = torch.randn(8, 1, 16, 16), (torch.rand(8, 1, 16, 16) > 0.7).long()
for part in torch.arange(8).split(4):
    for _ in range(2):
        optimizer.zero_grad()
        loss = criterion(model(images[part]), masks[part])
        loss.backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    out = sliding_window_inference(images[:1], (16, 16), 1, model)
