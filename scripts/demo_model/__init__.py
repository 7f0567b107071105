"""The stages of `train_demo_model.py`."""
