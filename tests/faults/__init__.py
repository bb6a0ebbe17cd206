"""Whatever happens, finished work survives and wrong input is named."""
