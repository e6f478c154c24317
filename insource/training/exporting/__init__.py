"""The folder that `insource export` writes: its graph, its runner, its page, and what it says of itself."""
