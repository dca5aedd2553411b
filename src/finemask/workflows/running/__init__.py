"""How a training runs on a machine: its processes, its memory, what interrupts it, and how it goes on."""
