/** `twinpath/service`: tells systemd, or another service manager, how the ports of this process do. */
export { Liveness } from './service/liveness.ts';
export { ServiceManager } from './service/service-manager.ts';
