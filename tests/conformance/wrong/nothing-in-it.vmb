#= 1:1: a script without a statement
case 001
