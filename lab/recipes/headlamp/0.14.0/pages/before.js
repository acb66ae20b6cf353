// What some of the packages expect of a browser that their makers' build gives them.
window.process = { env: {} };
window.headlampBaseUrl = '';
