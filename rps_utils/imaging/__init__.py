"""From a scan to crops, patches and features."""
