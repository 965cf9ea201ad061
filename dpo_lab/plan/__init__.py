"""Plans of sweeps: files that say which runs there are to be, checked as configs are before anything is started."""
