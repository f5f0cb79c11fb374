#= 2:1: unknown statement 'ofer instance=1'; did you mean offer?
ofer instance=1
