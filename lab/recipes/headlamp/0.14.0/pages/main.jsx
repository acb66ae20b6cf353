// The outermost shell of Headlamp's pages, which its package does not contain: themes, languages, the
// bar above, and the frame in which the rest is shown.
import './before.js';
import '@kinvolk/headlamp-plugin/lib/i18n/config';
// Before all others: its circles of imports resolve in this order alone.
import Plugins from '@kinvolk/headlamp-plugin/lib/plugin/Plugins';
import { addCollection, Icon } from '@iconify/react';
import { loader } from '@monaco-editor/react';
import { AppBar, Box, Container, CssBaseline, IconButton, ThemeProvider, Toolbar, Typography } from '@mui/material';
import { QueryClientProvider, useQuery } from '@tanstack/react-query';
import i18next from 'i18next';
import * as monaco from 'monaco-editor/esm/vs/editor/editor.api';
import 'monaco-editor/esm/vs/basic-languages/yaml/yaml.contribution';
import EditorWorker from 'monaco-editor/esm/vs/editor/editor.worker?worker';
import { SnackbarProvider } from 'notistack';
import { useMemo } from 'react';
import { createRoot } from 'react-dom/client';
import { I18nextProvider, useTranslation } from 'react-i18next';
import { Provider, useDispatch } from 'react-redux';
import { BrowserRouter, useHistory } from 'react-router-dom';
import icons from 'virtual:icons';
import RouteSwitcher, { PreviousRouteProvider } from '@kinvolk/headlamp-plugin/lib/components/App/RouteSwitcher';
import { useCurrentAppTheme } from '@kinvolk/headlamp-plugin/lib/components/App/themeSlice';
import { ActivitiesRenderer } from '@kinvolk/headlamp-plugin/lib/components/activity/Activity';
import Sidebar, { NavigationTabs } from '@kinvolk/headlamp-plugin/lib/components/Sidebar';
import { logout } from '@kinvolk/headlamp-plugin/lib/lib/auth';
import { useCluster } from '@kinvolk/headlamp-plugin/lib/lib/k8s';
import { request } from '@kinvolk/headlamp-plugin/lib/lib/k8s/api/v1/clusterRequests';
import { queryClient } from '@kinvolk/headlamp-plugin/lib/lib/queryClient';
import { setStore } from '@kinvolk/headlamp-plugin/lib/lib/router/createRouteURL';
import { createMuiTheme } from '@kinvolk/headlamp-plugin/lib/lib/themes';
import { setConfig } from '@kinvolk/headlamp-plugin/lib/redux/configSlice';
import { useTypedSelector } from '@kinvolk/headlamp-plugin/lib/redux/hooks';
import store from '@kinvolk/headlamp-plugin/lib/redux/stores/store';

addCollection(icons);
self.MonacoEnvironment = { getWorker: () => new EditorWorker() };
// By itself it would load the editor from a server in the Internet.
loader.config({ monaco });
setStore(store);

function LogOut({ cluster }) {
  const history = useHistory();
  const leave = async () => {
    await logout(cluster);
    queryClient.clear();
    history.push(`/c/${cluster}/token`);
  };
  return (
    <IconButton color="inherit" aria-label="Log out" onClick={leave}>
      <Icon icon="mdi:logout" />
    </IconButton>
  );
}

function Frame() {
  const dispatch = useDispatch();
  const cluster = useCluster();
  const loaded = useTypedSelector(state => state.plugins.loaded);
  const wide = useTypedSelector(state => state.ui.isFullWidth);
  const clusters = useTypedSelector(state => state.config.clusters);
  useQuery({
    queryKey: ['config'],
    queryFn: async () => {
      const config = await request('/config', {}, false, false);
      const named = Object.fromEntries(config.clusters.map(row => [row.name, row]));
      dispatch(setConfig({ ...config, clusters: named }));
      return config;
    },
  });
  return (
    <Box sx={{ display: 'flex', flexDirection: 'column', height: '100dvh' }}>
      <CssBaseline enableColorScheme />
      <AppBar position="static" elevation={1} color="default" sx={{ color: 'text.primary' }}>
        <Toolbar variant="dense">
          <Typography variant="h6" sx={{ flexGrow: 1 }}>
            Headlamp{cluster ? ` · ${cluster}` : ''}
          </Typography>
          {cluster && <LogOut cluster={cluster} />}
        </Toolbar>
      </AppBar>
      <Box
        sx={{
          display: 'grid',
          flexGrow: 1,
          gridTemplateColumns: 'min-content 1fr',
          gridTemplateRows: '1fr min-content',
          overflow: 'hidden',
          position: 'relative',
        }}
      >
        <Sidebar />
        <Box component="main" sx={{ overflow: 'auto', gridColumn: '2 / 3', gridRow: '1 / 2', minHeight: 0 }}>
          <Container maxWidth={wide ? false : 'xl'} sx={{ height: '100%' }}>
            <NavigationTabs />
            {loaded && clusters && <RouteSwitcher requiresToken={() => true} />}
          </Container>
        </Box>
        <ActivitiesRenderer />
      </Box>
    </Box>
  );
}

function Themed() {
  const { ready } = useTranslation(['translation', 'glossary'], { useSuspense: false });
  const name = useCurrentAppTheme();
  const theme = useMemo(() => createMuiTheme(name), [name]);
  return (
    <ThemeProvider theme={theme}>
      {ready && (
        <SnackbarProvider anchorOrigin={{ vertical: 'bottom', horizontal: 'left' }}>
          <BrowserRouter>
            <PreviousRouteProvider>
              <Plugins />
              <Frame />
            </PreviousRouteProvider>
          </BrowserRouter>
        </SnackbarProvider>
      )}
    </ThemeProvider>
  );
}

createRoot(document.getElementById('root')).render(
  <Provider store={store}>
    <QueryClientProvider client={queryClient}>
      <I18nextProvider i18n={i18next}>
        <Themed />
      </I18nextProvider>
    </QueryClientProvider>
  </Provider>
);
