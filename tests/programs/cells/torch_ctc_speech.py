import torch
from torch import nn

model = nn.ModuleDict({"conv": nn.Conv1d(8, 16, 3, padding=1), "lstm": nn.LSTM(16, 24, batch_first=True), "out": nn.Linear(24, 10)})
criterion = nn.CTCLoss(blank=0, zero_infinity=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(4):
    audio, lengths = torch.randn(4, 20, 8), torch.tensor([20, 18, 15, 12])
    labels, label_lengths = torch.randint(1, 10, (4, 6)), torch.tensor([6, 5, 4, 3])
    h = model["conv"](audio.transpose(1, 2)).relu().transpose(1, 2)
    packed = nn.utils.rnn.pack_padded_sequence(h, lengths, batch_first=True)
    h, _ = nn.utils.rnn.pad_packed_sequence(model["lstm"](packed)[0], batch_first=True)
    log_probs = model["out"](h).log_softmax(2).transpose(0, 1)
    loss = criterion(log_probs, labels, lengths, label_lengths)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    decoded = [row.unique_consecutive().tolist() for row in log_probs.argmax(2).t()]
