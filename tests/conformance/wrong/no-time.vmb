#= 2:4: 'soon' is no time
T+ soon
