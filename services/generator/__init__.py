"""services/generator"""
