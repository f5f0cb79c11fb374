#= 2:22: a quote that does not end
G> OPEN_CHANNEL user="abc
