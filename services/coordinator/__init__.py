"""services/coordinator"""
