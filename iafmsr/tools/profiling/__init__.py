"""Where the time of a training goes: stock BasicSR and the switches of ours, side by side."""
