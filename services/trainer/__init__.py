"""services/trainer"""
