"""How many things a checkpoint can draw: each alone, by its name, judged by a recognizer of all."""
