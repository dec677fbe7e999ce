"""services/analyzer"""
