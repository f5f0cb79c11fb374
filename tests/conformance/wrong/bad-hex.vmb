#= 2:8: '0g' are no hexadecimal bytes
G> hex 0g
