#= 2:8: unknown option 'vsp'; did you mean vps?
option vsp=4
