"""ouroscope_app"""
