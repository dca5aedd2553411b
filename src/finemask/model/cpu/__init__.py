"""What a CPU computes another way than torchvision, with the same values: RoIAlign and wide convolutions."""
