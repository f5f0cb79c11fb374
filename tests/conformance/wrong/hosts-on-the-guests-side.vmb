#= 3:1: a script of the guest's side knows no hosts
side guest
H> done
