"""Small stand-ins for what the walkthrough notebooks train: plain torch, seconds on one CPU core. Nothing of gradnb uses them."""
