"""What the released code of WeakCLIP does around its network: training, and files."""
