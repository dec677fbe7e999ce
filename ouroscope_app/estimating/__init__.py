"""What an experiment would cost before it starts: work, time, memory and disk.

`work` counts what would be done, once where runs share it; `rates` turns it into time; `calibration` measures the rates
of this machine through the real services; `footprint` counts bytes; `showing` prints all of it.
"""
