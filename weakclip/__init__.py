"""WeakCLIP: from photos with image-level tags to segmentation masks.

Nothing is imported here, so that a stage that needs no torch starts without it and the code that a DVC stage depends on
stays what that stage imports itself.
"""
