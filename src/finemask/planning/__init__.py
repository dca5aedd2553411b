"""The plan of a training: what the data and the machine ask for, decided by small rules that say why."""
