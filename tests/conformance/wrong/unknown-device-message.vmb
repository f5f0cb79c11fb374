#= 3:4: unknown H< message 'opened'
version 5.3
H< opened relid=1
